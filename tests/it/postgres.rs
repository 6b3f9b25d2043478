//! The throwaway Postgres, and the harness that stands on it.

use crate::harness::TestDatabase;

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let one = TestDatabase::new().await;
    let two = TestDatabase::new().await;
    sqlx::query("create table only_in_one ()")
        .execute(&mut one.connect().await)
        .await
        .unwrap();

    sqlx::query("select from pending_notifications")
        .execute(two.pool())
        .await
        .unwrap();
    let error = sqlx::query("select from only_in_one")
        .execute(two.pool())
        .await
        .unwrap_err();

    assert!(error.to_string().contains("only_in_one"), "{error}");
    assert_ne!(one.url(), two.url());
}
