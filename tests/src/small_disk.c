/*
 * A disk that is soon full, for one folder and everything in it: what would make its files larger than SMALL_DISK_BYTES
 * in sum fails with ENOSPC. To be preloaded into a Postgres server; see small_disk.rs.
 *
 * Postgres makes files larger with the calls below. Their growth is counted in a file that all its processes share, and
 * measured anew after each MiB, and before anything is refused: what has been deleted or cut off is free again then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MEASURED_AFTER (1 << 20)

static struct { _Atomic long long used, since_measured; } *counts;
static const char *folder;
static long long bytes_max, measured;

__attribute__((constructor)) static void begin(void)
{
	const char *bytes = getenv("SMALL_DISK_BYTES"), *file = getenv("SMALL_DISK_COUNTS");
	int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (counts == MAP_FAILED || !bytes)
		abort();
	bytes_max = atoll(bytes);
	/* Postgres writes its process title over its environment. */
	folder = strdup(getenv("SMALL_DISK_FOLDER"));
}

static int add(const char *path, const struct stat *file, int kind, struct FTW *place)
{
	(void) path, (void) place;
	if (kind == FTW_F)
		measured += file->st_size;
	return 0;
}

static long long measure(void)
{
	measured = 0;
	nftw(folder, add, 16, FTW_PHYS);
	return measured;
}

/* Whether a file may become as large as that: 0, or ENOSPC. */
static int grow(int fd, long long size)
{
	char name[64], path[PATH_MAX];
	struct stat file;
	long long more;
	ssize_t length;

	if (!folder || fstat(fd, &file) || !S_ISREG(file.st_mode) || size <= file.st_size)
		return 0;
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	length = readlink(name, path, sizeof path - 1);
	if (length < 0 || strncmp(path, folder, strlen(folder)) || path[strlen(folder)] != '/')
		return 0;
	more = size - file.st_size;
	if (atomic_fetch_add(&counts->used, more) + more <= bytes_max &&
		atomic_fetch_add(&counts->since_measured, more) + more < MEASURED_AFTER)
		return 0;
	atomic_store(&counts->since_measured, 0);
	atomic_store(&counts->used, measure() + more);
	if (atomic_load(&counts->used) <= bytes_max)
		return 0;
	atomic_fetch_sub(&counts->used, more);
	return ENOSPC;
}

static long long sum(const struct iovec *parts, int count)
{
	long long bytes = 0;

	while (count-- > 0)
		bytes += parts++->iov_len;
	return bytes;
}

#define NEXT(name) \
	static __typeof__(&name) next; \
	if (!next) \
		next = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

#define REFUSED(fd, size) ((errno = grow(fd, size)) != 0)

ssize_t write(int fd, const void *bytes, size_t count)
{
	int before = errno;
	off_t at = folder ? lseek(fd, 0, SEEK_CUR) : -1;

	NEXT(write);
	if (at >= 0 && REFUSED(fd, at + (long long) count))
		return -1;
	errno = before;
	return next(fd, bytes, count);
}

#define PWRITE(name) \
	ssize_t name(int fd, const void *bytes, size_t count, off_t at) \
	{ \
		NEXT(name); \
		return REFUSED(fd, at + (long long) count) ? -1 : next(fd, bytes, count, at); \
	}
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name) \
	ssize_t name(int fd, const struct iovec *parts, int count, off_t at) \
	{ \
		NEXT(name); \
		return REFUSED(fd, at + sum(parts, count)) ? -1 : next(fd, parts, count, at); \
	}
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define FALLOCATE(name) \
	int name(int fd, off_t at, off_t count) \
	{ \
		int refused = grow(fd, (long long) at + count); \
		NEXT(name); \
		return refused ? refused : next(fd, at, count); \
	}
FALLOCATE(posix_fallocate)
FALLOCATE(posix_fallocate64)

#define FTRUNCATE(name) \
	int name(int fd, off_t size) \
	{ \
		NEXT(name); \
		return REFUSED(fd, size) ? -1 : next(fd, size); \
	}
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)
