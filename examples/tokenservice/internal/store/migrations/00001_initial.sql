-- +goose Up
create table principals (
    client_id   uuid primary key,
    name        text        not null unique check (length(name) between 1 and 100),
    created_at  timestamptz not null default now(),
    disabled_at timestamptz
);

create table principal_permissions (
    client_id  uuid        not null references principals on delete cascade,
    permission text        not null check (permission ~ '^[a-z][a-z0-9.-]{0,62}:[a-z][a-z0-9.-]{0,62}$'),
    granted_at timestamptz not null default now(),
    primary key (client_id, permission)
);

-- argon2id, with the parameters of each hash.
create table client_secrets (
    secret_id   text primary key,
    client_id   uuid        not null references principals on delete cascade,
    salt        bytea       not null check (length(salt) >= 16),
    hash        bytea       not null check (length(hash) = 32),
    memory_kib  integer     not null check (memory_kib between 8 and 1048576),
    iterations  integer     not null check (iterations between 1 and 100),
    parallelism smallint    not null check (parallelism between 1 and 255),
    created_at  timestamptz not null default now(),
    expires_at  timestamptz -- set when another secret takes its place
);
create index on client_secrets (client_id);

-- What one login leads to: a chain of refresh tokens, each used once.
create table refresh_families (
    family_id      uuid primary key,
    client_id      uuid        not null references principals on delete cascade,
    audience       text        not null,
    created_at     timestamptz not null default now(),
    expires_at     timestamptz not null,
    revoked_at     timestamptz,
    revoked_reason text
);
create index on refresh_families (client_id);
create index on refresh_families (expires_at);

create table refresh_tokens (
    token_hash bytea primary key check (length(token_hash) = 32), -- SHA-256
    family_id  uuid        not null references refresh_families on delete cascade,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index on refresh_tokens (family_id);

create table signing_keys (
    key_id             text primary key,
    public_key         bytea       not null, -- PKIX, DER
    sealed_private_key bytea       not null, -- PKCS #8, DER, sealed with AES-256-GCM
    signs_from         timestamptz not null,
    expires_at         timestamptz not null,
    created_at         timestamptz not null default now()
);

create table failed_logins (
    key         text primary key, -- an address, or a client id at an address
    failures    integer     not null,
    window_ends timestamptz not null
);
create index on failed_logins (window_ends);

create table audit_log (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default now(),
    event     text        not null,
    actor     text        not null, -- who did it: a client id, or the database role of who ran the command
    client_id uuid,                 -- the principal that it was done to; no reference, for it outlives the principal
    address   inet,
    detail    text        not null default ''
);
create index on audit_log (client_id, at);

-- +goose StatementBegin
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit_log is append-only' using errcode = 'insufficient_privilege';
end $$;
-- +goose StatementEnd

create trigger audit_log_is_append_only before update or delete or truncate on audit_log
    for each statement execute function refuse_audit_change();

-- +goose Down
drop table audit_log, failed_logins, signing_keys, refresh_tokens, refresh_families, client_secrets,
    principal_permissions, principals;
drop function refuse_audit_change;
