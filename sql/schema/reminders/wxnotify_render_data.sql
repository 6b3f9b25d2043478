-- String by string, never into the JSON's text: what is put in cannot become anything but a text.
create or replace function wxnotify_render_data(p_data jsonb, p_local_at timestamp, p_texts jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
begin
    if strpos(p_data::text, '{{') = 0 then
        return p_data;
    end if;
    return (select jsonb_object_agg(e.key, case jsonb_typeof(e.value)
                when 'string' then to_jsonb(wxnotify_render(e.value #>> '{}', p_local_at, p_texts))
                when 'object' then case when jsonb_typeof(e.value -> 'value') = 'string'
                    then e.value || jsonb_build_object('value', wxnotify_render(e.value ->> 'value', p_local_at, p_texts)) else e.value end
                else e.value end)
            from jsonb_each(p_data) e);
end $$;

comment on function wxnotify_render_data is 'Puts a fire''s time and a receiver''s texts into the fields of a message.';

grant execute on function wxnotify_render_data to wxnotify_worker;
