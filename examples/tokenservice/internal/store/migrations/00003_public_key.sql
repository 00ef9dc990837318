-- +goose Up
-- Each public key follows from the private one, which is sealed: one that stood here beside it could be anybody's.
alter table signing_keys drop column public_key;

-- +goose Down
delete from signing_keys; -- new ones are made
alter table signing_keys add column public_key bytea not null;
