-- +goose Up
-- The token that a used one was exchanged for, sealed with a key that only the used token itself leads to.
alter table refresh_tokens add column sealed_successor bytea;
create index on refresh_tokens (used_at) where sealed_successor is not null;

-- +goose Down
alter table refresh_tokens drop column sealed_successor;
