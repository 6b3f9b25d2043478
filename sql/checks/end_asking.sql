-- Ends the process of a check that does not answer.
select pg_terminate_backend($1)
