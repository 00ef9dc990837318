alter table orders drop column shipped_at;
