-- The rows of a batch by what they had come to, and what became of them. $1 batch
select r.cause, r.result, count(*) as rows, min(r.id) as first_id, max(r.id) as last_id
from operator_batch_rows r where r.batch_id = $1 group by r.cause, r.result order by count(*) desc, r.cause, r.result
