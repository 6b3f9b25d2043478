//! What a program and a database of different releases are to each other. Pure.

use semver::Version;

use super::Schema;

/// What a database says of its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Number of its newest migration.
    pub level: i32,
    /// The oldest level it serves.
    pub serves: i32,
    /// The release that wrote it.
    pub release: String,
    /// Of all its texts; empty while a migration is under way or was interrupted.
    pub fingerprint: String,
    /// Digest of our roles' rights after the last grants.
    pub rights: String,
}

/// What was found in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing of ours.
    Nothing,
    /// The thirteen migrations from before the first release.
    Unreleased,
    /// A schema that knows itself.
    Books(Books),
}

/// What this program is to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The database has no schema, or an older one: `wxnotify migrate` brings it up to date.
    Behind {
        /// In words.
        found: String,
    },
    /// The tables are this program's, the texts another's of the same release: `wxnotify migrate` replaces them.
    OtherText,
    /// The very schema of this program.
    Current,
    /// A newer release's, which still serves this program.
    Served {
        /// That release.
        release: String,
        /// Its level.
        level: i32,
    },
    /// A newer release's, which does not serve this program any more.
    TooOld(Books),
}

impl Standing {
    /// What `schema` is to what was found. Newer is first by level, then by release: code is never replaced backwards.
    #[must_use]
    pub fn of(found: &Found, schema: &Schema) -> Self {
        let books = match found {
            Found::Nothing => {
                return Self::Behind {
                    found: "none".to_owned(),
                };
            }
            Found::Unreleased => {
                return Self::Behind {
                    found: "an unreleased one".to_owned(),
                };
            }
            Found::Books(books) => books,
        };
        if books.level == schema.level() && books.fingerprint == schema.fingerprint() {
            return Self::Current;
        }
        let theirs = Version::parse(&books.release).ok();
        let is_newer = books.level > schema.level()
            || books.level == schema.level()
                && theirs
                    .as_ref()
                    .is_some_and(|theirs| *theirs > schema.release);
        if is_newer && schema.level() < books.serves {
            Self::TooOld(books.clone())
        } else if is_newer {
            Self::Served {
                release: books.release.clone(),
                level: books.level,
            }
        } else if books.level < schema.level()
            || theirs.is_none_or(|theirs| theirs < schema.release)
        {
            Self::Behind {
                found: format!("wxnotify {}'s (level {})", books.release, books.level),
            }
        } else {
            Self::OtherText
        }
    }

    /// Whether a worker of this program may work on the database as it is.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Current | Self::Served { .. })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn schema(release: &str, level: i32) -> Schema {
        let migrations: Vec<_> = (1..=level)
            .map(|level| (format!("{level:04}_step.sql"), String::new()))
            .collect();
        Schema::parse(Version::parse(release).unwrap(), 1, &migrations, &[]).unwrap()
    }

    fn books(release: &str, level: i32, serves: i32, fingerprint: &str) -> Found {
        Found::Books(Books {
            level,
            serves,
            release: release.to_owned(),
            fingerprint: fingerprint.to_owned(),
            rights: String::new(),
        })
    }

    /// (what the database has, what the program of 1.2.0 at level 3 is to it)
    #[test]
    fn newer_is_first_by_level_then_by_release() {
        let ours = schema("1.2.0", 3);
        let same = ours.fingerprint();
        let standing = |release, level, serves, fingerprint: &str| {
            Standing::of(&books(release, level, serves, fingerprint), &ours)
        };
        let behind = |standing: Standing| matches!(standing, Standing::Behind { .. });
        assert!(behind(Standing::of(&Found::Nothing, &ours)));
        assert!(behind(Standing::of(&Found::Unreleased, &ours)));
        assert!(behind(standing("1.1.0", 2, 1, "other")));
        // An older level wins over a newer release's number: a branch was released late.
        assert!(behind(standing("1.3.0", 2, 1, "other")));
        assert!(behind(standing("1.1.9", 3, 1, "other")));
        assert_eq!(standing("1.2.0", 3, 1, &same), Standing::Current);
        // The same text under an older name: nothing needs to be done.
        assert_eq!(standing("1.1.9", 3, 1, &same), Standing::Current);
        assert_eq!(standing("1.2.0", 3, 1, "other"), Standing::OtherText);
        assert_eq!(standing("1.2.0", 3, 1, ""), Standing::OtherText);
        assert!(matches!(
            standing("1.2.1", 3, 1, "other"),
            Standing::Served { .. }
        ));
        assert!(matches!(
            standing("1.3.0", 4, 3, "other"),
            Standing::Served { level: 4, .. }
        ));
        assert!(matches!(
            standing("2.0.0", 5, 4, "other"),
            Standing::TooOld(_)
        ));
        // A migration of the newer release was interrupted: its tables may be there, so its promise counts.
        assert!(matches!(standing("2.0.0", 5, 4, ""), Standing::TooOld(_)));
    }

    #[test]
    fn only_its_own_schema_or_a_newer_one_that_serves_it_is_good_for_a_program() {
        let ours = schema("1.2.0", 3);
        let serves = |found| Standing::of(&found, &ours).serves();
        assert!(serves(books("1.2.0", 3, 1, &ours.fingerprint())));
        assert!(serves(books("1.3.0", 4, 3, "x")));
        assert!(!serves(books("1.3.0", 4, 4, "x")));
        assert!(!serves(books("1.2.0", 3, 1, "x")));
        assert!(!serves(Found::Nothing));
    }
}
