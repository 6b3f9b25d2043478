-- The steps that a program of sqlx applied in this schema: ours from before the first release may be among them.
select version, encode(checksum, 'hex') as checksum from _sqlx_migrations where success
