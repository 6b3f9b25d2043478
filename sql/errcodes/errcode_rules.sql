-- Every rule: what the worker does with each of WeChat's errcodes. A plain read of about a hundred rows.
select errcode, disposition, credit, pause_secs, pause_until, retries_max,
       escalate_to, escalate_counted, escalate_count, escalate_percent, escalate_calls, escalate_secs, escalate_pause_secs
from wechat_errcodes
