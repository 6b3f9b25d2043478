select cancel_notification($1, 'the customer changed her mind')
