-- The roles of wxnotify, for an administrator to create where the user of `wxnotify migrate` may not:
--   psql -f roles.sql
-- Once for the whole server, whatever the number of databases; running it again does no harm. Then run `wxnotify migrate`
-- in each database: it grants what each role is for (docs/security.md#roles).
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['wxnotify_console', 'wxnotify_producer', 'wxnotify_operator', 'wxnotify_viewer', 'wxnotify_worker'] LOOP
        IF to_regrole(wanted) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;
