-- A SaaS in miniature: its customers (tenants) have invoices.
create table customer (
    id   text primary key,
    name text not null
);
create table invoice (
    id          bigint  generated always as identity primary key,
    customer_id text    not null references customer,
    amount      numeric not null,
    status      text    not null default 'open' check (status in ('open', 'paid'))
);
comment on table invoice is 'An invoice of a customer.';
create table fraud_score (
    customer_id text    primary key references customer,
    score       integer not null
);
insert into customer values ('acme', 'Acme Inc.'), ('globex', 'Globex Corp.');
