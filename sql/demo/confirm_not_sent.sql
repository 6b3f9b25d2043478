select confirm_not_sent($1, 'the customer has no such message')
