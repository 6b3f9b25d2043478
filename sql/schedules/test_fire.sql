-- The id of the notification that was made.
select test_fire($1, $2)
