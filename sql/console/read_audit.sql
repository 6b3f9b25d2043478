-- The last id of the record of actions, to say that there is something new.
select coalesce(max(id), 0) from operator_actions
