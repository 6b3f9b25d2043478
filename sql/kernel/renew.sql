-- Lets started leases of a worker last longer; one whose row a settle holds is passed over. Returns those that last longer now.
select wxnotify_renew($1, $2, $3, $4, $5)
