-- Creates wxnotify's roles where that is allowed and grants what each is for. Each row is something an administrator should mend.
select advice from wxnotify_grant_roles() advice
