create or replace function count_person(p_appid text, p_openid text) returns table (what text, rows bigint)
language plpgsql stable security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    return query select r.what, count(*) from wxnotify_person_rows(p_appid, p_openid) r group by r.what order by r.what;
end $$;

comment on function count_person is 'How many rows are kept of one user of one mini-program, by table.';

grant execute on function count_person to wxnotify_operator;
