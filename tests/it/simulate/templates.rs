//! The list of an app's templates.

use serde_json::{Value, json};

use super::{APP, USER, World, assert_refused, message};

#[tokio::test]
async fn templates_are_added_listed_and_deleted() {
    let world = World::open().await;
    let token = world.token().await;
    let call = |name: &str| format!("/wxaapi/newtmpl/{name}?access_token={token}");
    let add = async |body: Value| world.post(&call("addtemplate"), body.to_string()).await;
    for (body, errcode) in [
        (json!({"tid": "99999", "kidList": [1, 2]}), 200_014),
        (json!({"tid": "401", "kidList": [1]}), 200_020),
        (json!({"tid": "401", "kidList": [1, 99]}), 200_020),
        (json!({"tid": "401", "kidList": [0, 1]}), 200_020),
        (
            json!({"tid": "401", "kidList": [1, 2], "sceneDesc": "一二三四五六七八九十一二三四五六"}),
            200_021,
        ),
    ] {
        assert_refused(&add(body).await, errcode);
    }
    let added = add(json!({"tid": "401", "kidList": [3, 1, 2], "sceneDesc": "订单"})).await;
    let id = added["priTmplId"].as_str().unwrap().to_owned();
    assert_refused(
        &add(json!({"tid": 401, "kidList": [3, 1, 2]})).await,
        200_022,
    );

    let listed = world.get(&call("gettemplate")).await;
    assert_eq!(listed["data"][0]["priTmplId"], id);
    assert_eq!(listed["data"][0]["title"], "取餐提醒");
    assert_eq!(listed["data"][0]["type"], 2);
    assert_eq!(
        listed["data"][0]["content"],
        "金额:{{amount3.DATA}}\n订单号:{{character_string1.DATA}}\n商品:{{thing2.DATA}}\n"
    );
    assert_refused(&world.post(&call("gettemplate"), "{}").await, 43001);

    let send = json!({"touser": USER, "template_id": id, "data": {"amount3": {"value": "36元"}, "character_string1": {"value": "SO-1"}, "thing2": {"value": "咖啡"}}});
    assert_eq!(world.send(&send).await["errcode"], 0);
    let delete = json!({ "priTmplId": id }).to_string();
    assert_eq!(
        world.post(&call("deltemplate"), delete.clone()).await["errcode"],
        0
    );
    assert_refused(&world.post(&call("deltemplate"), delete).await, 20_002);
    assert_refused(&world.send(&send).await, 40037);
    assert_eq!(world.get(&call("gettemplate")).await["data"], json!([]));
}

#[tokio::test]
async fn the_list_of_templates_has_a_quota_of_its_own() {
    let world = World::open().await;
    world.begin_the_day();
    let path = "/wxaapi/newtmpl/gettemplate";
    assert!(world.control.set_quota_of(APP, path, Some(1), None));
    assert!(
        !world
            .control
            .set_quota_of(APP, "/no/such/path", Some(1), None)
    );
    let token = world.token().await;
    let list = format!("{path}?access_token={token}");
    assert_eq!(world.get(&list).await["errcode"], 0);
    assert_refused(&world.get(&list).await, 45009);
    let quota_get = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let answer = world
        .post(&quota_get, json!({ "cgi_path": path }).to_string())
        .await;
    assert_eq!(
        answer["quota"],
        json!({"daily_limit": 1, "used": 1, "remain": 0})
    );
    assert_eq!(world.send(&message()).await["errcode"], 0);
}

// Faults
