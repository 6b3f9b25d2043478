//! The whole schema as one script, for those who apply SQL by other tools, or as a user who may not create roles.

use std::fmt::Write;

use super::Schema;
use super::apply::{lock, record, write_books};
use super::text::{Kind, Text};

/// One transaction that makes the schema where there is none and brings an older one up to date, with the books that
/// `wxnotify migrate` would have written; on a newer one it ends with an error. Run it with a `search_path` that begins with
/// the schema it is for.
#[must_use]
pub fn print(schema: &Schema) -> String {
    let mut script = format!(
        "-- The schema of wxnotify {}, level {}. It makes the tables in the first schema of the search_path, or brings them up to date.\n\
         -- Apply it with a tool that stops at the first error: psql -v ON_ERROR_STOP=1 -f FILE\n\n\
         begin isolation level read committed read write;\n",
        schema.release,
        schema.level()
    );
    let mut add = |statements: &str| {
        let _ = write!(script, "{}\n\n", statements.trim());
    };
    add(&include_str!("../../sql/migrate/settle_session.sql").replace("\nset ", "\nset local "));
    add("set local lock_timeout = '5s';");
    add(&format!("{};", lock("pg_advisory_xact_lock")));
    add(include_str!("../../sql/migrate/make_books.sql"));
    add(&refuse_newer(schema));
    for migration in &schema.migrations {
        let level = migration.level;
        add(&format!(
            "do $wxnotify$ begin\nif not exists (select from wxnotify_schema where level >= {level}) then\nexecute $migration$\n{}\n{};\n$migration$;\nend if;\nend $wxnotify$;",
            migration.sql.trim(),
            write_books(schema, level, "", ""),
        ));
    }
    add(&format!(
        "{};",
        include_str!("../../sql/migrate/create_roles.sql").trim()
    ));
    for text in &schema.texts {
        add(&statements_of(text));
    }
    add(&format!(
        "{};",
        include_str!("../../sql/upkeep/make_partitions.sql").trim()
    ));
    add(&format!(
        "{};\nupdate wxnotify_schema set rights = (select r.digest from (\n{}) r);",
        write_books(schema, schema.level(), &schema.fingerprint(), ""),
        include_str!("../../sql/migrate/read_rights.sql").trim()
    ));
    add("commit;");
    script
}

fn refuse_newer(schema: &Schema) -> String {
    format!(
        "do $wxnotify$ begin\nif exists (select from wxnotify_schema where level > {}) then\n    raise exception 'the schema is newer than that of wxnotify {}';\nend if;\nend $wxnotify$;",
        schema.level(),
        schema.release
    )
}

/// A text with its grants, each left out where its role does not exist.
fn statements_of(text: &Text) -> String {
    let mut sql = text.sql.clone();
    if text.kind == Kind::Policy {
        let (table, name) = text.name.split_once('.').unwrap_or_default();
        sql = format!("drop policy if exists {name} on {table};\n{sql}");
    }
    if let Some(role) = &text.needs_role {
        sql = format!(
            "do $wxnotify$ begin\nif to_regrole('{role}') is not null then\nexecute $policy$\n{sql}\n$policy$;\nend if;\nend $wxnotify$;"
        );
    }
    if text.kind == Kind::Function {
        let _ = write!(
            sql,
            "\nrevoke execute on function {} from public;",
            text.name
        );
    }
    for grant in &text.grants {
        let _ = write!(
            sql,
            "\ndo $wxnotify$ begin if to_regrole('{}') is not null then {}; end if; end $wxnotify$;",
            grant.role, grant.sql
        );
    }
    format!("{sql}\n{};", record(text))
}
