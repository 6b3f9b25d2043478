-- Registers a start of a worker; the database issues its epoch, so two workers of one name are told apart.
insert into notification_workers (name, version, appids) values ($1, $2, $3) returning epoch
