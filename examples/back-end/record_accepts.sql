-- One row for each accept: a credit, held until there is something to say. In the order's transaction.
-- $1 appid, $2 openid, $3 the accepted template ids, $4 the order as the business names it
insert into pending_notifications (appid, openid, template_id, held, business_ref)
select $1, $2, accepted, true, $4 from unnest($3::text[]) accepted
