-- Which server process answers: behind a pooler in transaction mode it changes between two statements of one connection.
select pg_backend_pid()
