-- What became of the rows that a redrive made. $1 batch
select n.status, count(*) as rows
from notifications n
where n.id = any (array(select r.new_id from operator_batch_rows r where r.batch_id = $1 and r.new_id is not null limit 10000))
group by n.status order by count(*) desc
