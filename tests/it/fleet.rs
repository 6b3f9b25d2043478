//! Several cells seen from one database: the script of `deploy/` on three databases and a fourth that looks at them.

use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};
use std::str::FromStr;

use crate::harness::TestDatabase;
use crate::kernel::insert;

const FLEET: &str = include_str!("../../deploy/fleet.sql");
const CELLS: [&str; 3] = ["east", "north", "west"];

struct Fleet {
    looking: TestDatabase,
    cells: Vec<TestDatabase>,
}

impl Fleet {
    /// Each cell has one row of its own, whose business_ref is the cell's name.
    async fn new() -> Self {
        let looking = TestDatabase::new().await;
        sqlx::raw_sql(FLEET).execute(looking.pool()).await.unwrap();
        let mut cells = Vec::new();
        for cell in CELLS {
            let database = TestDatabase::new().await;
            insert(database.pool(), json!({"business_ref": cell}))
                .await
                .unwrap();
            cells.push(database);
        }
        let fleet = Self { looking, cells };
        for (cell, database) in CELLS.iter().zip(&fleet.cells) {
            fleet.add(cell, database).await;
        }
        fleet
    }

    fn pool(&self) -> &PgPool {
        self.looking.pool()
    }

    async fn add(&self, cell: &str, database: &TestDatabase) {
        let options = PgConnectOptions::from_str(database.url()).unwrap();
        let url = options.to_url_lossy();
        sqlx::query("select fleet_add_cell($1, $2, $3, $4, $5, $6, p_sslmode => 'disable')")
            .bind(cell)
            .bind(url.host_str().unwrap())
            .bind(i32::from(url.port().unwrap()))
            .bind(url.path().trim_start_matches('/'))
            .bind(url.username())
            .bind(url.password().unwrap_or("none"))
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// The cells of the rows that the fleet's view shows.
    async fn cells_seen(&self) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar("select cell from fleet_notifications order by cell")
            .fetch_all(self.pool())
            .await
    }

    /// Makes a cell unreachable, or reachable again.
    async fn let_in(&self, cell: usize, allowed: bool) {
        let options = PgConnectOptions::from_str(self.cells[cell].url()).unwrap();
        let name = options.get_database().unwrap();
        let statements = [
            format!("alter database {name} allow_connections {allowed}"),
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and not {allowed}"
            ),
        ];
        for statement in statements {
            sqlx::query(AssertSqlSafe(statement))
                .execute(self.pool())
                .await
                .unwrap();
        }
    }

    /// What fleet_refresh says of each cell.
    async fn refresh(&self) -> Vec<(String, bool, bool)> {
        sqlx::query_as("select cell, is_reachable, trouble is null from fleet_refresh()")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn three_cells_are_seen_side_by_side_and_a_row_is_found_wherever_it_is() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.cells_seen().await.unwrap(), CELLS);
    let found: Vec<(String, String)> =
        sqlx::query_as("select cell, status from fleet_notifications where business_ref = 'north'")
            .fetch_all(fleet.pool())
            .await
            .unwrap();
    assert_eq!(found, [("north".to_owned(), "paused".to_owned())]);
    for view in [
        "backlog",
        "failures",
        "dead_letters",
        "doubts",
        "credits",
        "workers_live",
        "pauses",
        "tokens",
    ] {
        let statement = format!("select count(*) from fleet_{view}");
        let rows: sqlx::Result<i64> = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(fleet.pool())
            .await;
        assert!(rows.is_ok(), "{view}: {}", rows.unwrap_err());
    }
}

#[tokio::test]
async fn a_condition_is_answered_by_the_cells_and_one_on_the_cell_asks_that_cell_alone() {
    let fleet = Fleet::new().await;
    let plan: Vec<String> = sqlx::query_scalar(
        "explain verbose select status from fleet_notifications where cell = 'west' and business_ref = 'west'",
    )
    .fetch_all(fleet.pool())
    .await
    .unwrap();
    let plan = plan.join("\n");
    let remote: Vec<&str> = plan
        .lines()
        .filter(|line| line.contains("Remote SQL"))
        .collect();
    assert_eq!(remote.len(), 1, "{plan}");
    assert!(remote[0].contains("business_ref = 'west'"), "{plan}");
    fleet.let_in(0, false).await;
    let west: i64 =
        sqlx::query_scalar("select count(*) from fleet_notifications where cell = 'west'")
            .fetch_one(fleet.pool())
            .await
            .unwrap();
    assert_eq!(west, 1);
    fleet.let_in(0, true).await;
}

#[tokio::test]
async fn a_cell_that_is_down_is_named_then_left_out_and_comes_back() {
    let fleet = Fleet::new().await;
    fleet.let_in(1, false).await;
    let down = fleet.cells_seen().await.unwrap_err().to_string();
    assert!(
        down.contains("cell_north") || down.contains("connect"),
        "{down}"
    );

    let state = |cell: &str, reached| (cell.to_owned(), reached, reached);
    assert_eq!(
        fleet.refresh().await,
        [
            state("east", true),
            state("north", false),
            state("west", true)
        ]
    );
    assert_eq!(fleet.cells_seen().await.unwrap(), ["east", "west"]);

    fleet.let_in(1, true).await;
    assert_eq!(fleet.refresh().await, CELLS.map(|cell| state(cell, true)));
    assert_eq!(fleet.cells_seen().await.unwrap(), CELLS);
}

#[tokio::test]
async fn nothing_can_be_changed_through_the_fleet() {
    let fleet = Fleet::new().await;
    for statement in [
        "update cell_east.notifications set status = 'dead'",
        "delete from cell_east.notifications",
        "truncate cell_east.notifications",
        "update cell_east.pending_notifications set held = true",
    ] {
        assert!(
            sqlx::query(statement).execute(fleet.pool()).await.is_err(),
            "{statement}"
        );
    }
    assert_eq!(fleet.cells_seen().await.unwrap(), CELLS);
}
