-- How many receivers of the next seven days will lack a credit.
select coalesce(max(f.lacking), 0)::bigint from notification_forecast('wx_demo_cafe') f
