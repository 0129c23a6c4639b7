/* Sends the queries of getaddrinfo(3) to the name server in NAME_SERVER_PORT, on 127.0.0.1, in
 * place of the servers in /etc/resolv.conf. glibc keeps a thread's state that the program has
 * changed (resolver(3)). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <resolv.h>
#include <stdlib.h>

/* Seconds until glibc gives up. It asks once. */
#define PATIENCE 30

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **addresses)
{
    resolver *of_glibc = (resolver *) dlsym(RTLD_NEXT, "getaddrinfo");
    const char *port = getenv("NAME_SERVER_PORT");

    if (!of_glibc || !port || res_init() != 0)
        abort();
    _res.nscount = 1;
    _res.nsaddr_list[0].sin_family = AF_INET;
    _res.nsaddr_list[0].sin_port = htons(atoi(port));
    _res.nsaddr_list[0].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    _res.retrans = PATIENCE;
    _res.retry = 1;
    return of_glibc(name, service, hints, addresses);
}
