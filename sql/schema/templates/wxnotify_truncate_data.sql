-- Cuts what may be cut without telling a lie: free text. A number, a time or an order number that is cut would be another.
create or replace function wxnotify_truncate_data(p_data jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select coalesce(jsonb_object_agg(f.key,
        case when f.room is null or length(f.text) <= f.room then f.value
             when jsonb_typeof(f.value) = 'string' then to_jsonb(f.cut)
             else jsonb_set(f.value, '{value}', to_jsonb(f.cut)) end), p_data)
    from (
        -- A joiner or a space at the cut would leave half a picture or a gap before the dots.
        select d.key, d.value, d.room, d.text, rtrim(left(d.text, d.room - 1), E' \u3000\u200d\ufe0f') || '…' as cut
        from (
            select e.key, e.value,
                   case jsonb_typeof(e.value) when 'string' then e.value #>> '{}'
                        when 'object' then case when jsonb_typeof(e.value -> 'value') = 'string' then e.value ->> 'value' end end as text,
                   case when rtrim(e.key, '0123456789') = 'short_thing' then 10
                        when rtrim(e.key, '0123456789') in ('number', 'letter', 'symbol', 'character_string', 'time', 'date', 'amount', 'phone_number',
                             'car_number', 'name', 'phrase', 'enum', 'enum_string', 'const', e.key) then null
                        else 20 end as room
            from jsonb_each(p_data) e) d) f
$$;

comment on function wxnotify_truncate_data is 'The fields with free text (thing, short_thing and types WeChat does not document) cut to what WeChat takes, ending in ….';

grant execute on function wxnotify_truncate_data to wxnotify_worker;
