create or replace function wxnotify_rate_factor(p_factor real, p_cut_at timestamptz) returns real
language sql stable
return least(1, p_factor + coalesce(extract(epoch from statement_timestamp() - p_cut_at) / 600, 0))::real;

comment on function wxnotify_rate_factor is 'The share of its rate that a mini-program may use now: a tenth comes back each minute after a halving.';

grant execute on function wxnotify_rate_factor to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
