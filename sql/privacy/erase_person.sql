-- A step of an erasure: what was done to how many rows.
select what, rows from erase_person($1, $2, $3)
