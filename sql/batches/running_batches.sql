-- What is to be gone on with, and who started it: the person before the bracket.
select id, actor from operator_batches where state = 'running' order by id
