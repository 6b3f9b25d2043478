-- How many rows are kept of one user, by table.
select what, rows from count_person($1, $2)
