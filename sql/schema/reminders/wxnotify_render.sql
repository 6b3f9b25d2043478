-- {{fire:FORMAT}} is the fire's local time in to_char's letters; {{name}} is a text of the audience's row, or nothing.
create or replace function wxnotify_render(p_text text, p_local_at timestamp, p_texts jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    v_out   text := '';
    v_rest  text := p_text;
    v_start int;
    v_end   int;
    v_word  text;
begin
    loop
        v_start := strpos(v_rest, '{{');
        v_end := strpos(v_rest, '}}');
        exit when v_start = 0 or v_end < v_start or v_start is null;
        v_word := substr(v_rest, v_start + 2, v_end - v_start - 2);
        v_out := v_out || left(v_rest, v_start - 1)
            || case when v_word like 'fire:%' then to_char(p_local_at, substr(v_word, 6)) else coalesce(p_texts ->> v_word, '') end;
        v_rest := substr(v_rest, v_end + 2);
    end loop;
    return v_out || v_rest;
end $$;

comment on function wxnotify_render is 'Puts a fire''s time and a receiver''s texts into a text.';

grant execute on function wxnotify_render to wxnotify_worker;
