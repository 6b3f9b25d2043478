-- Returns how many parked rows became due: call again while it is 1000.
select resume_template($1, $2, 1000, $3)
