-- The errcode with its meaning, as one phrase; null when there is none to speak of.
create or replace function wxnotify_errcode_in_words(p_errcode bigint, p_errmsg text, p_chinese boolean) returns text
language sql stable set search_path from current as $$
    select case
        when p_errcode is null then p_errmsg
        else coalesce(
            (select format('%s %s', e.errcode, case when p_chinese then e.meaning_zh else e.meaning_en end)
             from wechat_errcodes e where e.errcode = p_errcode),
            format(case when p_chinese then '%s（未收录的错误码）' else '%s (errcode not in the table)' end, p_errcode))
    end
$$;

comment on function wxnotify_errcode_in_words is 'An errcode with its meaning in English or Chinese; without an errcode the transport failure.';

grant execute on function wxnotify_errcode_in_words to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
