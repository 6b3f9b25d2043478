create or replace function remove_check(p_name text, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
declare
    v_id bigint;
begin
    perform wxnotify_need_check(p_name);
    select s.id into v_id from reminder_schedules s where s.still_true = p_name order by s.id limit 1;
    if v_id is not null then
        raise exception 'check % is named by schedule % and may be by others', p_name, v_id
            using errcode = 'dependent_objects_still_exist', hint = 'Change their still_true first.';
    elsif exists (select 1 from wechat_templates t where t.still_true = p_name) then
        raise exception 'check % is named by a template', p_name
            using errcode = 'dependent_objects_still_exist', hint = 'Look at wechat_templates.still_true; select set_template_still_true(appid, template_id, null) first.';
    end if;
    delete from reminder_checks c where c.name = p_name;
    perform wxnotify_record_action('remove_check', jsonb_build_object('check', p_name), 1, p_note);
end $$;

comment on function remove_check is 'Removes a check that no reminder and no template names.';

grant execute on function remove_check to wxnotify_operator;
