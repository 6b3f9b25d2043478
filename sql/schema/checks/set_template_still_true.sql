create or replace function set_template_still_true(p_appid text, p_template_id text, p_check text, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    if p_check is not null then
        perform wxnotify_need_check(p_check);
    end if;
    insert into wechat_templates (appid, template_id, still_true) values (p_appid, p_template_id, p_check)
    on conflict (appid, template_id) do update set still_true = excluded.still_true;
    perform wxnotify_record_action('set_template_still_true', jsonb_build_object('appid', p_appid, 'template_id', p_template_id, 'check', p_check), 1, p_note);
end $$;

comment on function set_template_still_true is 'The check that reminders of a template are asked by unless they name one; null: none.';

grant execute on function set_template_still_true to wxnotify_operator;
