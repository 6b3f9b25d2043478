-- A producer sees and changes its own rows alone. The owner passes without any check; the worker by a policy that is constantly
-- true, which the planner drops. Hence none of the kernel's statements gains a filter.
create policy own_rows on pending_notifications using (producer = session_user) with check (producer = session_user);

comment on policy own_rows on pending_notifications is 'A database user inserts, sees, changes and cancels the rows that it inserted or armed.';
