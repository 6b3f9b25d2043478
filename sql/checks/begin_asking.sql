-- Before a check is asked: what it may not do is forbidden to its whole transaction. Who catches the time-out is ended from outside.
begin transaction read only
