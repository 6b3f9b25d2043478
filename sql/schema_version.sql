-- The newest migration that was applied; null: none.
select max(version) from _sqlx_migrations where success
