-- +goose Up
alter table orders add column shipped_at timestamptz;

-- +goose Down
alter table orders drop column shipped_at;
