-- What each of WeChat's errcodes means for a row, as data that an operator may change, and the pauses that follow.
-- A code that is not listed is retried at most three times and then dead-lettered: that rule is in the program.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table wechat_errcodes (
    errcode             bigint primary key,
    disposition         text not null,
    credit              text not null default 'unknown',
    pause_secs          integer,
    pause_until         text,
    retries_max         smallint,
    escalate_to         text,
    escalate_counted    text,
    escalate_count      integer,
    escalate_percent    smallint,
    escalate_calls      smallint,
    escalate_secs       integer,
    escalate_pause_secs integer,
    meaning_zh          text not null,
    meaning_en          text not null,
    advice              text not null,
    source              text not null,
    constraint disposition_is_known check (disposition in ('sent', 'retry', 'refresh_token', 'pause_app', 'pause_template', 'pause_user', 'dead')),
    constraint credit_is_known check (credit in ('kept', 'gone', 'unknown')),
    constraint pause_is_one_span_or_one_rule check (num_nonnulls(pause_secs, pause_until) <= 1),
    constraint pauses_end check (disposition not like 'pause%' or num_nonnulls(pause_secs, pause_until) = 1),
    constraint users_pause_for_a_span check (disposition <> 'pause_user' or pause_secs is not null),
    constraint pause_secs_is_1_to_a_month check (pause_secs between 1 and 2678400),
    constraint pause_until_is_known check (pause_until in ('operator', 'china_midnight', 'next_minute')),
    constraint retries_max_is_0_to_100 check (retries_max between 0 and 100),
    constraint escalate_to_is_known check (escalate_to in ('app', 'template')),
    constraint escalate_counted_is_known check (escalate_counted in ('calls', 'calls_of_one_page', 'openids', 'templates')),
    constraint escalation_is_whole check (
        (escalate_to is null and num_nonnulls(escalate_counted, escalate_count, escalate_percent, escalate_calls, escalate_secs, escalate_pause_secs) = 0)
        or (num_nulls(escalate_to, escalate_counted, escalate_count) = 0 and num_nonnulls(escalate_calls, escalate_secs) = 1)),
    constraint escalate_count_is_1_to_10000 check (escalate_count between 1 and 10000),
    constraint escalate_percent_is_1_to_100 check (escalate_percent between 1 and 100),
    constraint escalate_calls_is_2_to_64 check (escalate_calls between 2 and 64),
    constraint last_calls_are_counted_plainly check (escalate_calls is null or escalate_counted = 'calls'),
    constraint templates_escalate_to_the_app check (escalate_counted <> 'templates' or escalate_to = 'app'),
    constraint escalate_secs_is_10_to_86400 check (escalate_secs between 10 and 86400),
    constraint escalate_pause_secs_is_1_to_a_month check (escalate_pause_secs between 1 and 2678400)
);

comment on table wechat_errcodes is 'What the worker does with each errcode of WeChat. An operator changes it with UPDATE or INSERT; workers read it anew within a minute. Codes that are not listed are retried at most three times, then dead-lettered.';
comment on column wechat_errcodes.errcode is 'WeChat''s errcode.';
comment on column wechat_errcodes.disposition is 'sent; retry (backoff, counts an attempt); refresh_token (once, then as pause_app); pause_app, pause_template, pause_user (the row waits, no attempt counted); dead.';
comment on column wechat_errcodes.credit is 'What became of the user''s credit when a row dies of it: kept, gone or unknown.';
comment on column wechat_errcodes.pause_secs is 'Length of the pause; after it one row is tried, and the pause repeats if that fails the same way. For retry: the least wait.';
comment on column wechat_errcodes.pause_until is 'End of the pause by rule: operator, china_midnight (00:00 UTC+8, when daily quotas begin anew) or next_minute.';
comment on column wechat_errcodes.retries_max is 'Retries after which a row dies of this code even if attempts are left; null: attempts_max alone counts.';
comment on column wechat_errcodes.escalate_to is 'What this code in numbers stops: app or template; null: nothing but its own row.';
comment on column wechat_errcodes.escalate_counted is 'What is counted for it: calls, calls_of_one_page, openids or templates with the code.';
comment on column wechat_errcodes.escalate_count is 'Stops when at least so many were counted.';
comment on column wechat_errcodes.escalate_percent is 'And when the code makes up at least this share of the calls; null: whatever the share.';
comment on column wechat_errcodes.escalate_calls is 'Looks at the last so many calls of the template or app, as one worker sees them.';
comment on column wechat_errcodes.escalate_secs is 'Or at the calls of the last so many seconds.';
comment on column wechat_errcodes.escalate_pause_secs is 'Length of the escalated pause; null: until an operator resumes it.';
comment on column wechat_errcodes.meaning_zh is 'Meaning in Chinese.';
comment on column wechat_errcodes.meaning_en is 'Meaning in English.';
comment on column wechat_errcodes.advice is 'What an operator does next.';
comment on column wechat_errcodes.source is 'Where the meaning comes from.';

insert into wechat_errcodes (errcode, disposition, credit, pause_secs, pause_until, retries_max, meaning_zh, meaning_en, advice, source) values
-- Success and passing trouble
(0,       'sent',           'gone',    null,  null,             null, '请求成功', 'accepted by WeChat', 'Nothing to do.', 'official docs and SDKs'),
(-1,      'retry',          'unknown', null,  null,             6,    '系统繁忙', 'WeChat is busy', 'Nothing to do unless it lasts: common at volume.', 'official docs and SDKs'),
-- Token and mini-program
(40001,   'refresh_token',  'unknown', 300,   null,             null, 'access_token 无效或不是最新；获取 token 时为 AppSecret 错误', 'access_token invalid or not the latest; from the token call: wrong AppSecret', 'If it lasts, check the AppSecret and whether another system forces token refreshes.', 'official docs and SDKs'),
(40014,   'refresh_token',  'unknown', 300,   null,             null, '不合法的 access_token', 'malformed access_token', 'If it lasts, check that nothing between here and WeChat changes the request.', 'official docs and SDKs'),
(42001,   'refresh_token',  'unknown', 300,   null,             null, 'access_token 超时', 'access_token expired', 'Nothing to do: the token is refreshed. If it lasts, check the clock of the database server.', 'official docs and SDKs'),
(41001,   'pause_app',      'unknown', null,  'operator',       null, '缺少 access_token 参数', 'access_token missing', 'Check that no proxy strips the query of requests, then resume the mini-program.', 'official docs and SDKs'),
(42002,   'pause_app',      'unknown', null,  'operator',       null, 'refresh_token 超时', 'refresh_token expired', 'Belongs to third-party platforms, not to this call: check which account the secret is of.', 'official docs and SDKs'),
(40002,   'pause_app',      'unknown', null,  'operator',       null, '不合法的凭证类型', 'invalid grant_type', 'Check that the API address is WeChat''s, then resume the mini-program.', 'official docs and SDKs'),
(40013,   'pause_app',      'unknown', null,  'operator',       null, '不合法的 AppID', 'invalid appid', 'Check the appid and that it is a mini-program''s.', 'official docs and SDKs'),
(40125,   'pause_app',      'unknown', null,  'operator',       null, '不合法的 AppSecret', 'invalid AppSecret', 'Copy the AppSecret from mp.weixin.qq.com again, restart the worker, then resume the mini-program.', 'official docs and SDKs'),
(41002,   'pause_app',      'unknown', null,  'operator',       null, '缺少 appid 参数', 'appid missing', 'Check that nothing between here and WeChat changes the request.', 'official docs and SDKs'),
(41004,   'pause_app',      'unknown', null,  'operator',       null, '缺少 secret 参数', 'secret missing', 'Check the AppSecret''s setting: it may be empty.', 'official docs and SDKs'),
(40164,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址不在白名单中', 'this server''s IP address is not in the whitelist', 'Add the address in the errmsg to the IP whitelist at mp.weixin.qq.com; it is tried again every 5 minutes.', 'official docs and SDKs'),
(61004,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址未登记', 'this server''s IP address is not registered', 'As 40164.', 'official docs and SDKs'),
(45035,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址未登记', 'this server''s IP address is not registered', 'As 40164.', 'official docs and SDKs'),
(40243,   'pause_app',      'unknown', 600,   null,             null, 'AppSecret 已被冻结', 'the AppSecret is frozen', 'Unfreeze it at mp.weixin.qq.com; that takes about 10 minutes to act. It is tried again every 10 minutes.', 'official docs and SDKs'),
(50004,   'pause_app',      'unknown', null,  'operator',       null, '禁止使用 token 接口', 'the token API is forbidden', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs'),
(50007,   'pause_app',      'unknown', null,  'operator',       null, '账号已冻结', 'the account is frozen', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs'),
(89501,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'The account''s administrator confirms in WeChat; it is tried again every 5 minutes.', 'WxJava'),
(89502,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89503,   'pause_app',      'unknown', 300,   null,             null, '此 IP 调用需要管理员确认', 'calls from this IP address need the administrator''s confirmation', 'The account''s administrator confirms in WeChat; it is tried again every 5 minutes.', 'official docs and SDKs'),
(89504,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89505,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89506,   'pause_app',      'unknown', 86400, null,             null, '24 小时内该 IP 被管理员拒绝调用', 'the administrator refused this IP address for 24 hours', 'Speak with the account''s administrator; sooner calls are useless.', 'official docs and SDKs'),
(89507,   'pause_app',      'unknown', 3600,  null,             null, '1 小时内该 IP 被管理员拒绝调用', 'the administrator refused this IP address for an hour', 'Speak with the account''s administrator; sooner calls are useless.', 'official docs and SDKs'),
(43001,   'pause_app',      'unknown', null,  'operator',       null, '需要 GET 请求', 'must be a GET request', 'Check that the API address is WeChat''s and no proxy changes the method.', 'official docs and SDKs'),
(43002,   'pause_app',      'unknown', null,  'operator',       null, '需要 POST 请求', 'must be a POST request', 'Check that the API address is WeChat''s and no proxy changes the method.', 'official docs and SDKs'),
(43003,   'pause_app',      'unknown', null,  'operator',       null, '需要 HTTPS 请求', 'must be an HTTPS request', 'Check that the API address begins with https://.', 'official docs and SDKs'),
(45009,   'pause_app',      'unknown', null,  'china_midnight', null, '接口调用超过每日限额', 'the daily quota of this API is used up', 'It begins anew at 00:00 China time. To send sooner, clear the quota at mp.weixin.qq.com (10 times a month) and resume the mini-program.', 'official docs and SDKs'),
(45011,   'pause_app',      'unknown', null,  'next_minute',    null, 'API 调用太频繁，超过分钟频率', 'the quota of this minute is used up', 'If it comes often, set a rate for the mini-program.', 'official docs and SDKs'),
(44990,   'pause_app',      'unknown', 2,     null,             null, '接口请求太快', 'too many calls in a second', 'If it comes often, set a rate for the mini-program.', 'SDKs'),
(48001,   'pause_app',      'unknown', null,  'operator',       null, '接口功能未授权', 'the API is not authorised for this account', 'Check at mp.weixin.qq.com that subscription messages are enabled and that the secret is of this mini-program.', 'official docs and SDKs'),
(48004,   'pause_app',      'unknown', null,  'operator',       null, '接口被封禁', 'the API is banned for violations', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs and SDKs'),
(48008,   'pause_template', 'unknown', null,  'operator',       null, '没有该类型消息的发送权限', 'no permission for this type of message', 'Check the template at mp.weixin.qq.com, then resume it.', 'WxJava'),
(50001,   'dead',           'kept',    null,  null,             null, '用户未授权该 API', 'the user has not authorised this API', 'Not expected here. If many rows end so, check which account the openids are of.', 'official docs and SDKs'),
(61007,   'pause_app',      'unknown', null,  'operator',       null, '接口未授权给第三方平台', 'the API is not authorised to the third-party platform', 'The mini-program''s owner authorises message permissions to the platform.', 'official docs and SDKs'),
(40234,   'pause_app',      'unknown', null,  'operator',       null, 'API 安全：签名错误', 'API security mode: bad signature', 'API security (signed and encrypted requests) is on for this mini-program and not supported: turn it off at mp.weixin.qq.com, then resume.', 'developer community'),
(934011,  'pause_app',      'unknown', null,  'operator',       null, 'API 安全：需要加密请求', 'API security mode: the request must be encrypted', 'As 40234.', 'developer community'),
(43104,   'pause_app',      'unknown', null,  'operator',       null, '此 AppID 没有权限', 'this appid has no permission for the message', 'Check at mp.weixin.qq.com that subscription messages are enabled.', 'WxJava'),
(40251,   'pause_app',      'unknown', null,  'china_midnight', null, '账号因违规达到发送上限', 'the account''s own cap on sends is reached, after violations', 'Look at the notices at mp.weixin.qq.com.', 'official docs and SDKs'),
-- Row, template and user
(43101,   'dead',           'gone',    null,  null,             null, '用户拒绝接受消息：未订阅、次数已用完或已拒收', 'the user has no credit left, never subscribed, or refuses', 'Normal at volume. If a template''s share jumps, the record of credits is wrong: check that one accept makes one row.', 'official docs and SDKs'),
(40037,   'pause_template', 'unknown', null,  'operator',       null, '不合法的 template_id', 'invalid template_id', 'The template was deleted or belongs to another mini-program: correct it or add it, then resume the template.', 'official docs and SDKs'),
(40036,   'pause_template', 'unknown', null,  'operator',       null, '不合法的 template_id 长度', 'template_id of invalid length', 'As 40037.', 'WxJava'),
(43108,   'pause_user',     'unknown', 2,     null,             null, '对同一用户并发下发', 'two calls for one user at the same moment', 'Nothing to do unless another system sends to the same users.', 'official docs and SDKs'),
(43116,   'pause_template', 'unknown', null,  'operator',       null, '模板因滥用被限制下发', 'the template is restricted after abuse', 'Look at the notices at mp.weixin.qq.com, then resume the template.', 'official docs and SDKs'),
(45168,   'dead',           'kept',    null,  null,             null, '命中敏感词', 'the text holds a blacklisted word', 'Change the text and insert a corrected copy: the credit is kept.', 'official docs and SDKs'),
(47001,   'dead',           'kept',    null,  null,             null, '解析 JSON/XML 内容错误', 'the request is not readable JSON', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(47002,   'dead',           'kept',    null,  null,             null, '请求体编码错误（不支持 \uXXXX）', 'the request''s encoding is refused', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(40033,   'dead',           'kept',    null,  null,             null, '不合法的请求字符（不支持 \uXXXX）', 'the request holds \uXXXX escapes', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(44002,   'retry',          'kept',    null,  null,             1,    'POST 的数据包为空', 'the request''s body is empty', 'Check that no proxy drops bodies of requests.', 'official docs and SDKs'),
(40097,   'dead',           'kept',    null,  null,             null, '参数错误', 'invalid arguments', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(40035,   'dead',           'kept',    null,  null,             null, '不合法的参数', 'invalid parameter', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(41011,   'dead',           'kept',    null,  null,             null, '缺少必填字段', 'a required field is missing', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(45047,   'pause_user',     'unknown', 86400, null,             null, '客服接口下行条数超过上限', 'too many customer-service messages to the user', 'Not expected from this API; the row is tried again after a day.', 'official docs and SDKs'),
(40249,   'dead',           'kept',    null,  null,             null, '营销内容被拒绝', 'marketing content is refused', 'Change the text and insert a corrected copy.', 'SDKs'),
(40250,   'dead',           'kept',    null,  null,             null, '内容不符合要求（如为空）', 'the content is not proper, for example empty', 'Change the text and insert a corrected copy.', 'SDKs'),
(40252,   'pause_template', 'unknown', 3600,  null,             null, '内容正在平台审核', 'the content is under review', 'Wait: it is tried again every hour.', 'SDKs'),
(40032,   'dead',           'kept',    null,  null,             null, '不合法的 openid 列表大小', 'invalid size of the list of openids', 'Report it as a fault of this program: a device message goes to one receiver.', 'developer community'),
(40038,   'dead',           'kept',    null,  null,             null, '不合法的请求格式', 'malformed request', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(9800001, 'dead',           'kept',    null,  null,             null, '设备 sn 过长', 'the device''s sn is longer than 128 bytes', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800002, 'dead',           'kept',    null,  null,             null, '设备 sn 含非法字符', 'the device''s sn holds illegal characters', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800003, 'dead',           'kept',    null,  null,             null, '设备 model_id 校验失败', 'the device''s model_id is refused', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800006, 'dead',           'kept',    null,  null,             null, '设备 sn 或 model_id 与订阅时不一致', 'sn and model_id are not those of the subscription', 'Correct the row''s extra and insert a corrected copy.', 'developer community');

insert into wechat_errcodes (errcode, disposition, credit, pause_until, escalate_to, escalate_counted, escalate_count, escalate_percent, escalate_calls, escalate_secs, escalate_pause_secs, meaning_zh, meaning_en, advice, source) values
(40003, 'dead',           'unknown', null,       'app',      'calls',             10, 20,   null, 300,  600,  '不合法的 OpenID', 'invalid openid', 'The openid is of another mini-program, or mistyped. If it is a large share, the token and the openids are of different mini-programs.', 'official docs and SDKs'),
(50002, 'dead',           'unknown', null,       'app',      'openids',           5,  null, null, 300,  600,  '用户受限，可能是账号被冻结或注销', 'the user''s account is limited, frozen or deleted; in some tables: the mini-program''s', 'Nothing to do for single users. For many, look at the notices at mp.weixin.qq.com.', 'official docs and SDKs, which disagree'),
(41030, 'dead',           'kept',    null,       'template', 'calls_of_one_page', 10, null, null, 300,  3600, 'page 路径不正确', 'no such page', 'The page must be in the released version, without a leading slash. Insert a corrected copy.', 'official docs and SDKs'),
(40165, 'dead',           'kept',    null,       'template', 'calls_of_one_page', 10, null, null, 300,  3600, '不合法的小程序 page 路径', 'no such page', 'As 41030.', 'official docs and SDKs'),
(43107, 'pause_template', 'unknown', 'operator', 'app',      'templates',         2,  null, null, 3600, null, '订阅消息能力被封禁', 'the ability to send is banned, for the account or the template', 'The account was punished: look at the notices at mp.weixin.qq.com, then resume the template.', 'official docs and SDKs'),
(47003, 'dead',           'kept',    null,       'template', 'calls',             10, 50,   20,   null, 1800, '模板参数不准确：字段为空或不满足规则', 'a field is empty or breaks its rule; the errmsg names it', 'Correct that field and insert a corrected copy. If a template fails in numbers, it was changed: compare its fields.', 'official docs and SDKs');

-- Login codes (jscode2session). Nothing was sent: a one-time credit is kept, but the row never learns its receiver.
insert into wechat_errcodes (errcode, disposition, credit, pause_secs, pause_until, retries_max, meaning_zh, meaning_en, advice, source) values
(40029,   'dead',           'kept',    null,  null,             null, '登录 code 无效或已过期', 'the login code is invalid or expired', 'Have the page call wx.login again and insert a new row at once: a code lives for 5 minutes.', 'official docs and SDKs'),
(40163,   'dead',           'kept',    null,  null,             null, '登录 code 已被使用', 'the login code was used before', 'A code works once: if your own server exchanges it too, give the row the openid instead.', 'developer community and SDKs'),
(40226,   'dead',           'kept',    null,  null,             null, '高风险用户，登录被拦截', 'the login of a high-risk user is blocked', 'WeChat blocks this user; nothing to do.', 'official docs and SDKs'),
(41008,   'dead',           'kept',    null,  null,             null, '缺少 code 参数', 'the login code is missing', 'Check what the page reports as login_code.', 'official docs'),
-- Service cards
(85431,   'retry',          'kept',    null,  null,             null, '服务卡片：系统繁忙', 'service card: WeChat is busy', 'Nothing to do unless it lasts.', 'official docs'),
(85433,   'dead',           'kept',    null,  null,             null, '服务卡片：check_json 有误', 'service card: check_json is bad', 'Correct the row''s extra.check_json and insert a corrected copy.', 'official docs'),
(85434,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：notify_type 有误', 'service card: bad notify_type', 'Check the card at mp.weixin.qq.com and the row''s template_id (its notify_type), then resume it.', 'official docs'),
(85461,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：该卡片未开通', 'service card: this card is not admitted', 'Apply for the card at mp.weixin.qq.com, then resume it.', 'official docs'),
(85462,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：小程序未开通', 'service card: the mini-program is not admitted', 'Apply for service cards at mp.weixin.qq.com, then resume the card.', 'official docs'),
(85435,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 有误', 'service card: content_json is bad', 'Correct the row''s data and insert a corrected copy.', 'official docs'),
(85440,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 缺少字段', 'service card: content_json lacks a field', 'Add the fields this state needs and insert a corrected copy.', 'official docs'),
(85441,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 字段格式有误', 'service card: a field of content_json has a wrong form', 'Correct the row''s data and insert a corrected copy.', 'official docs'),
(85443,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 不是 UTF-8', 'service card: content_json is not UTF-8', 'Report it as a fault of this program, with the row''s data.', 'official docs'),
(85436,   'dead',           'kept',    null,  null,             null, '服务卡片：code 已被封禁', 'service card: the code is blocked', 'Nothing more can be sent for this payment or tap.', 'official docs'),
(85437,   'retry',          'kept',    60,    null,             5,    '服务卡片：code 不存在', 'service card: the code does not exist', 'A fresh payment takes a minute to be known. If it lasts, notify_code must be WeChat Pay''s transaction id, not the merchant''s order number.', 'official docs and developer community'),
(85438,   'dead',           'kept',    null,  null,             null, '服务卡片：code 已过期（或 check_json 与支付不符）', 'service card: the code has expired, or check_json does not match the payment', 'Compare pay_amount and pay_time of extra.check_json with the payment first.', 'official docs and developer community'),
(85439,   'dead',           'kept',    null,  null,             null, '服务卡片：不允许的状态', 'service card: this state may not follow the card''s present one', 'The card''s state was read back and is an earlier one: check the order of the states.', 'official docs'),
(85442,   'dead',           'kept',    null,  null,             null, '服务卡片：内容未通过审核', 'service card: the content failed its audit', 'Change the text and insert a corrected copy.', 'official docs'),
(85448,   'sent',           'kept',    null,  null,             null, '服务卡片：该状态已推送', 'service card: this state was pushed before', 'Nothing to do.', 'official docs'),
(85449,   'pause_user',     'kept',    2,     null,             null, '服务卡片：code 正在更新', 'service card: the code is locked by another update', 'Nothing to do unless another system updates the same cards.', 'official docs'),
(85444,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 pay_info 校验失败', 'service card: pay_info of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85445,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 store_info 校验失败', 'service card: store_info of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85446,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 shipping_list 校验失败', 'service card: shipping_list of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85447,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 product_list 校验失败', 'service card: product_list of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85470,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 无效', 'service card: ext_json is invalid', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85471,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 不是 UTF-8', 'service card: ext_json is not UTF-8', 'Report it as a fault of this program, with the row''s extra.', 'official docs');

-- Codes of other APIs that look as if they belonged here: handled as if they were not listed, but with their meaning.
insert into wechat_errcodes (errcode, disposition, retries_max, escalate_to, escalate_counted, escalate_count, escalate_percent, escalate_secs, escalate_pause_secs, meaning_zh, meaning_en, advice, source)
select code, 'retry', 3, 'app', 'calls', 5, 20, 300, 600, zh, en, 'Not expected from this API: check that the API address is WeChat''s.', 'official docs and SDKs'
from (values
    (45157,   '标签名非法', 'illegal name of a tag'),
    (85017,   '没有新增域名', 'no new server domain'),
    (9410000, '直播间列表为空', 'no live rooms'),
    (9410001, '获取直播间失败', 'live room not available'),
    (9410002, '获取商品失败', 'live goods not available'),
    (9410003, '获取回放失败', 'live replay not available')) as elsewhere (code, zh, en);

-- When a pause ends: a span from now, or a rule. `jittered` is false for the earliest end that the rule allows.
create function wxnotify_pause_end(p_secs double precision, p_rule text, p_jittered boolean) returns timestamptz
language plpgsql volatile set search_path from current as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    if num_nonnulls(p_secs, p_rule) <> 1 then
        raise exception 'a pause has either seconds or a rule (operator, china_midnight, next_minute)' using errcode = '22023';
    end if;
    return case
        when p_secs is not null then v_now + least(greatest(p_secs, 0), 31536000) * interval '1 second'
        when p_rule = 'operator' then 'infinity'
        when p_rule = 'china_midnight' then
            (date_trunc('day', v_now at time zone 'UTC' + interval '8 hours') + interval '16 hours') at time zone 'UTC'
            + case when p_jittered then random() * interval '60 seconds' else interval '0' end
        when p_rule = 'next_minute' then
            date_trunc('minute', v_now) + interval '61 seconds'
            + case when p_jittered then random() * interval '9 seconds' else interval '0' end
        else wxnotify_refuse_pause_rule(p_rule)
    end;
end $$;
comment on function wxnotify_pause_end(double precision, text, boolean) is 'When a pause that begins now ends: after seconds, or by a rule: operator, china_midnight or next_minute.';

create function wxnotify_refuse_pause_rule(p_rule text) returns timestamptz
language plpgsql immutable set search_path from current as $$
begin
    raise exception 'pause rule "%" is not known: use operator, china_midnight or next_minute', p_rule using errcode = '22023';
end $$;
comment on function wxnotify_refuse_pause_rule(text) is 'Raises: the pause rule is not known.';

-- Many sends in flight may ask for the same pause at once. The row is written only if that moves its end by more
-- than a second, so they do not queue up for its lock, and a rule's jitter does not move it further each time.
create function wxnotify_pause_app(p_appid text, p_secs double precision, p_rule text, p_reason text, p_errcode bigint) returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_earliest timestamptz := wxnotify_pause_end(p_secs, p_rule, false);
    v_until    timestamptz := wxnotify_pause_end(p_secs, p_rule, true);
begin
    update wechat_apps
       set paused_until  = greatest(paused_until, v_until),
           pause_reason  = case when paused_until >= v_until then pause_reason else p_reason end,
           pause_errcode = case when paused_until >= v_until then pause_errcode else p_errcode end,
           probing       = true
     where appid = p_appid
       and (not probing or paused_until is null or v_earliest > paused_until + interval '1 second'
            or (v_earliest = 'infinity' and paused_until < 'infinity'));
    if not found then
        return exists (select from wechat_apps where appid = p_appid);
    end if;
    perform wxnotify_heed_errcode(p_appid, p_errcode);
    return true;
end $$;
comment on function wxnotify_pause_app(text, double precision, text, text, bigint) is 'Pauses a mini-program for seconds or until a rule''s time, never shortening a pause; afterwards one row is tried first. False: it is not registered.';

create function wxnotify_pause_template(p_appid text, p_template_id text, p_secs double precision, p_rule text, p_reason text, p_errcode bigint) returns void
language plpgsql volatile set search_path from current as $$
declare
    v_earliest timestamptz := wxnotify_pause_end(p_secs, p_rule, false);
    v_until    timestamptz := wxnotify_pause_end(p_secs, p_rule, true);
begin
    perform from wechat_templates
      where appid = p_appid and template_id = p_template_id
        and (paused_until >= v_earliest - interval '1 second');
    if found then
        return;
    end if;
    insert into wechat_templates as template (appid, template_id, paused_until, pause_reason, pause_errcode)
    values (p_appid, p_template_id, v_until, p_reason, p_errcode)
    on conflict (appid, template_id) do update
       set paused_until  = greatest(template.paused_until, excluded.paused_until),
           pause_reason  = excluded.pause_reason,
           pause_errcode = excluded.pause_errcode;
    perform wxnotify_heed_errcode(p_appid, p_errcode);
end $$;
comment on function wxnotify_pause_template(text, text, double precision, text, text, bigint) is 'Pauses one template for seconds or until a rule''s time, never shortening a pause.';

create function wxnotify_probe_ok(p_appid text) returns boolean
language plpgsql volatile set search_path from current as $$
begin
    update wechat_apps
       set probing = false, paused_until = null, pause_reason = null, pause_errcode = null
     where appid = p_appid and probing
       and (paused_until is null or paused_until <= clock_timestamp());
    return found;
end $$;
comment on function wxnotify_probe_ok(text) is 'The probe of a mini-program got a sound answer: ends probing and the pause that has lapsed. A pause that still runs stays.';

revoke execute on function
    wxnotify_pause_end(double precision, text, boolean),
    wxnotify_refuse_pause_rule(text),
    wxnotify_pause_app(text, double precision, text, text, bigint),
    wxnotify_pause_template(text, text, double precision, text, text, bigint),
    wxnotify_probe_ok(text)
from public;
