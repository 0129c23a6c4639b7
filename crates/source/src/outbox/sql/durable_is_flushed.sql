select pg_current_wal_flush_lsn() >= l.lsn - case when l.at in (24, 40) then l.at else 0 end
from (select i.lsn, (i.lsn - pg_lsn '0/0') % current_setting('wal_block_size')::numeric as at
      from pg_current_wal_insert_lsn() as i (lsn)) l
