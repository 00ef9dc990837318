-- name: CreateOrder :one
insert into orders (customer) values ($1) returning *;

-- name: GetOrder :one
select * from orders where id = $1;

-- name: ListOrders :many
select * from orders where customer = $1 order by id desc limit $2;
