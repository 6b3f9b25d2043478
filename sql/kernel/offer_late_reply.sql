-- Records a reply that came after its lease was taken over, as evidence.
select wxnotify_offer_late_reply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
