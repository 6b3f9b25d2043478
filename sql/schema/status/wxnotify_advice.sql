-- What a person does about an errcode, by what wxnotify does about it.
create or replace function wxnotify_advice(p_errcode bigint, p_disposition text, p_chinese boolean) returns text
language sql immutable set search_path from current as $$
    select case when p_chinese then zh else en end
    from (select
        case
            when p_errcode is null then 'Look at the network between the workers and api.weixin.qq.com; doubts: wxnotify doubt list.'
            when p_errcode = 43101 then 'Collect new credits in the mini-program: the user refused, or the credits are used up.'
            when p_disposition is null then 'Look the code up in WeChat''s documentation, then add it to wechat_errcodes.'
            when p_disposition = 'pause_app' then 'Mend the app''s settings or wait for its quota, then: wxnotify app resume.'
            when p_disposition = 'pause_template' then 'Check the template in WeChat''s console, then: wxnotify template resume.'
            when p_disposition = 'dead' then 'Correct the message or its receiver, then insert it anew or: wxnotify redrive.'
            else 'Nothing: wxnotify tries again by itself.' end as en,
        case
            when p_errcode is null then '检查 worker 到 api.weixin.qq.com 的网络；结果未知的消息见 wxnotify doubt list。'
            when p_errcode = 43101 then '在小程序内重新获取订阅授权：用户拒绝或次数已用尽。'
            when p_disposition is null then '在微信文档中查明该错误码，再加入 wechat_errcodes 表。'
            when p_disposition = 'pause_app' then '修正小程序配置或等待额度恢复，然后执行 wxnotify app resume。'
            when p_disposition = 'pause_template' then '在微信后台检查模板，然后执行 wxnotify template resume。'
            when p_disposition = 'dead' then '修正消息或接收人，再重新插入或执行 wxnotify redrive。'
            else '无需处理：wxnotify 会自动重试。' end as zh) advice
$$;

comment on function wxnotify_advice is 'What a person does about an errcode, in English or Chinese.';

grant execute on function wxnotify_advice to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
