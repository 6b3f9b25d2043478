-- One order for one tap. No row comes back when the request was seen before.
-- $1 request id, $2 openid, $3 item
insert into shop_orders (request_id, openid, item) values ($1, $2, $3)
on conflict (request_id) do nothing
returning id
