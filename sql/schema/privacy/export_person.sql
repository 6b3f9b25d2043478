create or replace function export_person(p_appid text, p_openid text, p_note text default null) returns table (what text, record jsonb)
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    perform wxnotify_record_action('export_person', jsonb_build_object('appid', p_appid, 'person', wxnotify_pseudonym(p_appid, p_openid)),
        (select count(*) from wxnotify_person_rows(p_appid, p_openid)), p_note);
    return query select r.what, r.record from wxnotify_person_rows(p_appid, p_openid) r;
end $$;

comment on function export_person is 'Everything that is kept of one user of one mini-program, by table. That it was read is recorded, without the openid.';

grant execute on function export_person to wxnotify_operator;
