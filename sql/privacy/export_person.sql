-- Everything that is kept of one user; that it was read is recorded.
select what, record from export_person($1, $2, $3)
