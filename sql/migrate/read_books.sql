-- What the schema knows of itself.
select level, serves, release, fingerprint, rights from wxnotify_schema
