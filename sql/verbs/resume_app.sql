-- Returns how many parked rows became due: call again while it is 1000.
select resume_app($1, 1000, $2)
