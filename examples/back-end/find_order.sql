-- The order of a request that was seen before. $1 request id, $2 openid
select id from shop_orders where request_id = $1 and openid = $2
