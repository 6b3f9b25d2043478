-- Records durably that the lease's rows may be sent from now on, or renews it. Null: the lease is gone.
select wxnotify_start($1, $2, $3, $4, $5)
