//! The migrations from before the first release, when all was a migration and sqlx kept the books: their databases are taken over.

use super::Kind;

/// Version and SHA-384 of each, as sqlx recorded them in `_sqlx_migrations`.
pub(super) const MIGRATIONS: [(i64, &str); 13] = [
    (
        1,
        "121ebbe4effdd98f24a20d14688a20c984e10efcad93f236009172cbcd15a614da4711abac4f8058bd462ba41ac06c8b",
    ),
    (
        10,
        "4e843205f1dfb5c4338cbd2861d9d369cbd434fd001038370fb81588121ef888a18fb56c0c9ed926d545b65608baf76d",
    ),
    (
        11,
        "ffc7b5d0646b2de82915a976cfe0579925654a310006c34618da284c24ea38b2733543d7f04ad4531589004076229292",
    ),
    (
        12,
        "31b0b6fb2cd553ca3208498557c853db5ba585d456a7be37631ab553c78767434a91daee098ec240fb05715fe026628e",
    ),
    (
        13,
        "73dfd6153e8e8fb3823c92f2713958dc33dcab474288bffa3c476f4bfa689b37020042e23a4fc6a3eede5d0bfbf956e7",
    ),
    (
        2,
        "ec3aad171a541db420da7a16dab431b696d2f74447f39f365e63a127c46a5b97eb76b9c2174ef2c43284717a79aa0939",
    ),
    (
        3,
        "cc8917555dcfe1bbf791e702cc9d8e9a7df99aaba105b848b631b1ececacc15d8245a6dca67c4cedf7eb7f7fa37e865e",
    ),
    (
        4,
        "ab8dee43c136f43eea3ffbf6bafb41e177490561b491a474b6faac9a00e3b6ac818eba4b6e045c7f8142db628d90ac36",
    ),
    (
        5,
        "bd26424e556487fc8c8018ca7a6d5a3e246da3eb37fee504ccc933681ca8454c9ff612aed76aa16ac914725785a0df22",
    ),
    (
        6,
        "37a48b74d4f7926565a68c1b8129981c59a84bba84bf1017497bbed8beb8edfffd96b4d28a8f3690b16fc911d0c12df1",
    ),
    (
        7,
        "60e9d6b27b7bb1afe933f8d2073f16301d006bdb77ed4e42bd6b3ab2ce5688d3d2075dc745bfd2b3f1a7c4d30e50887c",
    ),
    (
        8,
        "e54eb107024626eb5003b4ed06ded2d53c73146b2da5ef1a14f4e4b9bae7cc01af49189a48d412901b71e033e711dd0d",
    ),
    (
        9,
        "67d1cadb9d73ff8dd7ac8a72844e84c900eaae1ec749b8c53be4736340af59fb75d3082e457a370c4b072e6a6b086e92",
    ),
];

/// The level whose tables they made.
pub(super) const LEVEL: i32 = 1;

/// What they made and no release has.
pub(super) const GONE: [(Kind, &str); 3] = [
    (Kind::Trigger, "pending_notifications.accord"),
    (Kind::Function, "wxnotify_heed_template"),
    (Kind::Function, "wxnotify_grant_roles"),
];

/// How many of them are among what sqlx recorded here. A row of another program's differs in version or checksum.
pub(super) fn count_among(recorded: &[(i64, String)]) -> usize {
    MIGRATIONS
        .iter()
        .filter(|(version, checksum)| {
            recorded
                .iter()
                .any(|(theirs, sum)| theirs == version && sum == checksum)
        })
        .count()
}

/// Takes our rows out of sqlx's books, and the books away where nothing else is in them.
pub(super) fn leave_sqlx_books() -> String {
    let ours: Vec<_> = MIGRATIONS
        .iter()
        .map(|(version, checksum)| format!("({version}, '\\x{checksum}'::bytea)"))
        .collect();
    format!(
        "delete from _sqlx_migrations where (version, checksum) in ({});\n\
         do $$ begin if not exists (select from _sqlx_migrations) then drop table _sqlx_migrations; end if; end $$",
        ours.join(", ")
    )
}
